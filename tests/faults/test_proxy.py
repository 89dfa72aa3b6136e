"""The proxy of deploy/haproxy.cfg: no request is refused while a server ends, and nothing is buffered on the way."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import httpx

from app.cli.api_processes import open_listener
from tests.repo.sources import ROOT

CONFIG = ROOT / "deploy" / "haproxy.cfg"
PATIENCE_SECONDS = 60.0
UPLOAD_BYTES = 8 * 2**20


def free_port() -> int:
    with closing(open_listener("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def proxy(folder: Path, ports: list[int], check: str = "200ms") -> Iterator[int]:
    """Run HAProxy with the shipped configuration before servers at these ports, which it checks so often; yield its own
    port.
    """
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    assert Path(program).exists(), "HAProxy is not installed; `make proxies` installs it."
    port = free_port()
    config = CONFIG.read_text(encoding="utf-8")
    (options,) = re.findall(r"^ +server-template api 32 api:8000 (.*) resolvers docker init-addr none$", config, re.M)
    options = options.replace("inter 2s", f"inter {check}")
    servers = "\n".join(f"    server api{port} 127.0.0.1:{port} {options}" for port in ports)
    config = re.sub(r"^ +server-template .*$", servers, config, flags=re.MULTILINE)
    config = re.sub(r"^resolvers .*?(?=^frontend)", "", config, flags=re.MULTILINE | re.DOTALL)
    path = folder / "haproxy.cfg"
    path.write_text(config.replace("bind :8000", f"bind 127.0.0.1:{port}"), encoding="utf-8")
    process = subprocess.Popen([program, "-db", "-f", path])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


class Backend:
    """A small server: it answers each request, streams events until it is told to go on, and counts upload chunks."""

    def __init__(self, port: int) -> None:
        self.port, self.answered, self.forwarded = port, 0, ""
        self.next_event, self.first_chunk = asyncio.Event(), asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if length := re.search(r"content-length: (\d+)", head):
                rest = int(length[1])
                while rest:
                    rest -= len(await reader.read(65_536))
                    self.first_chunk.set()
            if " /healthz " not in head:
                self.answered += 1
                self.forwarded = "".join(re.findall(r"x-forwarded-for: (.*)\r", head))
            if " /events " in head:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n"
                )
                await writer.drain()
                await self.next_event.wait()
                writer.write(b"data: 2\n\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Backend"]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", self.port)
        async with server:
            yield self


def test_nothing_is_refused_while_servers_end_and_come_back(tmp_path: Path) -> None:
    async def restart_under_load() -> None:
        first, second = Backend(free_port()), Backend(free_port())
        with proxy(tmp_path, [first.port, second.port]) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:

                async def ask(count: int) -> None:
                    for _ in range(count):
                        response = await client.post("/orders", content=b"{}")
                        assert response.status_code == 200, response.text

                async with first.running():
                    await until_answered(client)
                    async with second.running():
                        await asyncio.gather(*(ask(50) for _ in range(4)))
                    # The second one has ended, and the proxy does not know yet.
                    await asyncio.gather(*(ask(50) for _ in range(4)))
                    async with second.running():
                        await asyncio.gather(*(ask(50) for _ in range(4)))
                        before = second.answered
                        while second.answered == before:
                            await ask(4)
        assert first.answered
        assert first.forwarded == "127.0.0.1"

    asyncio.run(restart_under_load())


def test_nothing_is_refused_while_several_servers_end_at_once(tmp_path: Path) -> None:
    """Those that have ended have no connections any more, so the proxy would choose them again and again."""

    async def end_two_of_four() -> None:
        servers = [Backend(free_port()) for _ in range(4)]
        with proxy(tmp_path, [each.port for each in servers], check="20s") as port:
            address = f"http://127.0.0.1:{port}"
            async with (
                httpx.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS) as client,
                AsyncExitStack() as stack,
            ):
                running = [await stack.enter_async_context(each.running()) for each in servers[:2]]
                async with servers[2].running(), servers[3].running():
                    await until_answered(client)
                    # One open stream for each server.
                    streams = [await stack.enter_async_context(client.stream("GET", "/events")) for _ in range(4)]
                    for ending in servers[2:]:
                        ending.next_event.set()
                answers = await asyncio.gather(*(client.post("/orders", content=b"{}") for _ in range(20)))
                assert [each.status_code for each in answers] == [200] * 20
                for going_on in running:
                    going_on.next_event.set()
                for stream in streams:
                    assert (await stream.aread()).endswith(b"data: 2\n\n")

    asyncio.run(end_two_of_four())


async def until_answered(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                if (await client.get("/")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


def test_events_and_uploads_are_passed_on_as_they_come(tmp_path: Path) -> None:
    async def stream() -> None:
        backend = Backend(free_port())
        with proxy(tmp_path, [backend.port]) as port:
            async with (
                backend.running(),
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client,
            ):
                await until_answered(client)
                async with client.stream("GET", "/events") as response:
                    lines = response.aiter_lines()
                    assert await anext(lines) == "data: 1", "before the second one is written"
                    backend.next_event.set()
                    assert [line async for line in lines if line] == ["data: 2"]

                async def body() -> AsyncIterator[bytes]:
                    yield b"x" * (UPLOAD_BYTES // 2)
                    await asyncio.wait_for(backend.first_chunk.wait(), PATIENCE_SECONDS)
                    yield b"x" * (UPLOAD_BYTES // 2)

                headers = {"content-length": str(UPLOAD_BYTES)}
                assert (await client.put("/upload", content=body(), headers=headers)).status_code == 200

    asyncio.run(stream())


def test_the_configuration_is_valid() -> None:
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    checked = subprocess.run([program, "-c", "-f", CONFIG], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
