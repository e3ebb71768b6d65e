import pytest

from broker.url import UrlError, parse_url


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1", "http://x:1", "mqtt://", "mqtt://h:0", "mqtt://h:99999", "mqtt://h/x"]
)
def test_a_wrong_url_is_one_sentence(url):
    with pytest.raises(UrlError, match="write mqtt://HOST:PORT"):
        parse_url(url)


def test_the_usual_port_needs_no_mention():
    assert str(parse_url("mqtt://cloud.local")) == "mqtt://cloud.local:1883"
