"""Order one film from the command line: quote, order, progress, receipt and file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.client import ApiError, Client
from pricing.labels import label_text

# Three shots, five seconds in total, with prompts that the shipped demo model understands.
STORYBOARD: dict[str, Any] = {
    "model": "demo",
    "shots": [
        {"prompt": "a red circle moves right on a blue background", "seconds": 2},
        {"prompt": "a yellow square bounces on a green background", "seconds": 2},
        {"prompt": "a white triangle grows on a purple background", "seconds": 1},
    ],
    "resolution": "720P",
    "ratio": "16:9",
}


def make_film(client: Client, order: Mapping[str, Any], target: Path, console: Console) -> dict[str, Any]:
    """Quote `order`, redeem the quote, follow the job, show its receipt, and write the film to `target`.

    An order of several films (`n`) writes `target` with a number each. Return the ended video, the first of several.
    Raises ApiError when the service refuses, when a film was not made, or when it was made and cannot be written: then
    its message has the download URL.
    """
    quote = client.post("/v1/videos/quotes", dict(order))
    console.print(quote_table(quote))
    video = client.post("/v1/videos", {**order, "quote_id": quote["id"]})
    charge = (
        "test job, free of charge"
        if video.get("test")
        else f"{quote['currency']} {quote['total']} is held until the job ends"
    )
    if video.get("group") is None:
        console.print(f"Ordered as [bold]{video['id']}[/bold]: {charge}.")
        return _finish_film(client, video, target, console)
    videos: Sequence[dict[str, Any]] = client.get(f"/v1/videos/groups/{video['group']}")["videos"]
    console.print(f"Ordered {len(videos)} films as [bold]{video['group']}[/bold]: {charge}.")
    ended, errors = [], []
    for number, each in enumerate(videos, 1):
        try:
            ended.append(_finish_film(client, each, target.with_stem(f"{target.stem}-{number}"), console))
        except ApiError as error:
            # The other films are made all the same.
            console.print(f"{each['id']}: {escape(str(error))}", highlight=False, soft_wrap=True)
            errors.append(error)
    if errors:
        raise errors[0]
    return ended[0]


def _finish_film(client: Client, video: Mapping[str, Any], target: Path, console: Console) -> dict[str, Any]:
    """Follow a job that was ordered, show its receipt, and write its film. Raises as `make_film`."""
    video = follow_job(client, video, console)
    console.print(receipt_table(client.get(f"/v1/videos/{video['id']}/receipt")))
    if video["status"] != "completed" and not video.get("video_url"):
        error = video.get("error") or {"code": video["status"], "message": f"The job ended as {video['status']}."}
        raise ApiError(f"No film: {error['message']}", code=error["code"])
    path = f"/v1/videos/{video['id']}/content"
    try:
        size = client.download(path, target)
    except (OSError, ApiError) as error:
        url = video.get("video_url") or f"{client.base_url}{path}"
        message = f"The film is made, but could not be written to {target}: {error}. Download it from {url}"
        raise ApiError(message, code="not_written") from None
    console.print(
        f"Film: [bold]{target.resolve()}[/bold] ({video['seconds']} s, {video['size']}, {size:,} bytes)", soft_wrap=True
    )
    return video


def warn_of_prompts(estimate: Mapping[str, Any], console: Console) -> bool:
    """Print what the model does not understand of an order; return whether that is the subject of a shot."""
    warnings: Sequence[Mapping[str, Any]] = estimate.get("warnings") or ()
    for each in warnings:
        console.print(f"[yellow]warning[/yellow] {escape(str(each['message']))}", highlight=False, soft_wrap=True)
    return any(each["code"] == "unknown_subject" for each in warnings)


def follow_job(client: Client, video: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Show a progress bar until the video has ended, and return the ended video."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("waiting", total=100)
        return client.follow(
            video["id"], lambda now: progress.update(bar, completed=now["progress"], description=_status_text(now))
        )


def quote_table(quote: Mapping[str, Any]) -> Table:
    """Return a quote or an estimate as a table: its lines in the order in which they apply, and the total."""
    return _price_table(
        f"Quote {quote['id']}" if "id" in quote else "Estimate", quote, note=f"price book {quote['book']}"
    )


def receipt_table(receipt: Mapping[str, Any]) -> Table:
    """Return a receipt as a table."""
    book = receipt["book"]
    seconds = receipt["billed_seconds"]
    return _price_table(
        f"Receipt {receipt['number']}", receipt, note=f"{seconds} s delivered, price book {book['name']}"
    )


def _price_table(title: str, price: Mapping[str, Any], *, note: str) -> Table:
    table = Table(title=title, caption=note, title_justify="left", caption_justify="left", show_footer=True)
    table.add_column("item", footer="Total")
    table.add_column(price["currency"], justify="right", footer=price["total"])
    lines: Sequence[Mapping[str, Any]] = price["lines"]
    for line in lines:
        # A receipt stores keys and facts instead of labels, so that it can be recomputed after a label changes.
        table.add_row(line.get("label") or label_text(line["key"], line["facts"], "en"), line["amount"])
    return table


def _status_text(video: Mapping[str, Any]) -> str:
    if video["status"] == "queued" and video.get("queue_position"):
        return f"waiting, position {video['queue_position']}"
    return str(video.get("stage") or video["status"])
