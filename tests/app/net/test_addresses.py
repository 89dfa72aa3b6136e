import pytest

from app.net.addresses import address_refusal, parse_networks, url_refusal

_BAD = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254
168.63.129.16 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1
192.175.48.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1
2001::1 2001:db8::1 2002:7f00:1:: 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1
"""
_GOOD = "1.1.1.1 8.8.8.8 93.184.215.14 2606:4700:4700::1111 2a00:1450:4001:830::200e ::ffff:8.8.8.8"
BAD, GOOD = _BAD.split(), _GOOD.split()


def test_there_are_45_bad_and_6_good_addresses():
    assert (len(set(BAD)), len(set(GOOD))) == (45, 6)


@pytest.mark.parametrize("address", BAD)
def test_a_bad_address_is_refused(address: str):
    assert address_refusal(address)


@pytest.mark.parametrize("address", GOOD)
def test_a_good_address_passes(address: str):
    assert address_refusal(address) is None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.20.0.2", "::1", "fd12::1", "::ffff:127.0.0.1"]
)
def test_development_may_reach_private_addresses(address: str):
    assert address_refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "168.63.129.16", "224.0.0.1", "0.0.0.0"]
)
def test_metadata_services_stay_out_of_reach_in_development(address: str):
    assert address_refusal(address, allow_private=True)


def test_the_operator_can_deny_networks_of_their_own():
    denied = parse_networks("93.184.0.0/16, 2a00:1450::/32")
    assert address_refusal("93.184.215.14", denied=denied)
    assert address_refusal("2a00:1450::1", denied=denied)
    assert address_refusal("127.0.0.1", allow_private=True, denied=parse_networks("127.0.0.0/8"))


@pytest.mark.parametrize("text", ["fe80::1%eth0", "2606:4700::1%1", "localhost", "", "1.2.3", "0x7f.1"])
def test_zones_and_what_is_no_address_are_refused(text: str):
    assert address_refusal(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/in",
        "https://hooks.example.com:8443/in?a=b",
        "https://bücher.example.com/",
        "https://hooks.example.com./in",
        "https://a_b.example.com/",
    ],
)
def test_a_public_https_url_passes(url: str):
    assert url_refusal(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "//hooks.example.com/",
        "hooks.example.com",
        "https:///in",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:80/",
        "https://hooks.example.com:99999/",
        "https://user@hooks.example.com/",
        "https://user:word@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com\\@10.0.0.1/",
        "https://hooks.exa mple.com/",
        "https://hooks.example.com/\r\nHost: x",
        "https://127.0.0.1/",
        "https://93.184.215.14/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://db/",
        "https://db.internal/",
        "https://printer.local/",
        "https://a..example.com/",
        "https://-a.example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://hooks.example.com/" + "a" * 2_048,
    ],
)
def test_a_url_of_a_suspicious_form_is_refused(url: str):
    assert url_refusal(url)


def test_media_may_come_over_plain_http_but_only_on_port_80():
    assert url_refusal("http://pictures.example.com/a.png", http=True) is None
    assert url_refusal("http://pictures.example.com:8080/a.png", http=True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9999/hook", "http://localhost:3000/", "https://box.local:4443/"])
def test_development_admits_loose_urls(url: str):
    assert url_refusal(url, strict=False) is None


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://a:b@localhost/", "http://localhost/#x", "http:///x"])
def test_development_still_refuses_what_is_no_plain_address(url: str):
    assert url_refusal(url, strict=False)
