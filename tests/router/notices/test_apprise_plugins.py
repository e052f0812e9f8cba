"""Apprise's plugins, one by one: the same as Apprise gives, without the other hundred."""

import subprocess
import sys

import apprise
import pytest

from router.notices.apprise_plugins import plugin_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of modules that plugins of Apprise import


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:8080/desk",
        "JSON://127.0.0.1/",
        "jsons://user:secret@hooks.example.com/a/b?+X-Key=one&method=PUT",
        "json://127.0.0.1/a/#b?verify=no&cto=3",
        "form://127.0.0.1/desk?-test=1",
        "forms://hooks.example.com",
        "xml://127.0.0.1:8080/desk",
        "xmls://hooks.example.com/desk?:Extra=one",
        "mailto://127.0.0.1:2525?from=a@example.com&to=b@example.com,c@example.com&name=Desk",
        "mailtos://user:secret@mail.example.com?smtp=relay.example.com&mode=starttls&to=b@example.com",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "pagerduty://" + "a" * 32 + "@" + "b" * 32,
    ],
)
def test_it_is_what_apprise_gives(url: str) -> None:
    found, wanted = plugin_of(url), apprise.Apprise.instantiate(url)
    assert wanted is not None
    assert type(found) is type(wanted)
    assert found.url() == wanted.url()
    assert found.url(privacy=True) == wanted.url(privacy=True)
    assert found.tags == wanted.tags


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "nonsense://127.0.0.1", "json://", "json://:99999999/", "mailto://", "mailto:desk", "slack://x"],
)
def test_what_apprise_does_not_know_is_none(url: str) -> None:
    assert apprise.Apprise.instantiate(url) is None
    assert plugin_of(url) is None


def test_the_usual_channels_load_their_own_plugin_only() -> None:
    code = (
        "import sys; from router.notices.apprise_plugins import plugin_of;"
        "assert plugin_of('json://127.0.0.1/') and plugin_of('mailto://127.0.0.1?from=a@example.com&to=b@example.com');"
        "print(len([name for name in sys.modules if name.startswith('apprise.plugins.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30, done.stdout
