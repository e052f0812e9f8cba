"""Provider profiles: the built-in ones, one's own beside the configuration, and what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest

from config.load import ConfigError, load_config
from config.profiles import BUILT_IN, ProfileFile, load_profile
from e911.provider_profile import (
    CallerField,
    CallerLocation,
    IdentityFields,
    LocationConveyance,
    LocationPosition,
    ProviderProfile,
)


def test_every_field_of_a_profile_can_be_written() -> None:
    assert set(ProfileFile.model_fields) == {field.name for field in fields(ProviderProfile)} - {"name"}


def test_the_built_in_profiles(tmp_path: Path) -> None:
    of_providers = {"audiocodes-elin", "bandwidth", "i2", "intrado-ers", "redsky", "telnyx", "voip-innovations"}
    assert {path.stem for path in BUILT_IN.glob("*.yaml")} == {"i3", "number", "pidf-lo"} | of_providers
    for name in of_providers:
        assert load_profile(name, tmp_path).description
    pidf_lo = load_profile("pidf-lo", tmp_path)
    assert pidf_lo == ProviderProfile(name="pidf-lo", description=pidf_lo.description)
    i3 = load_profile("i3", tmp_path)
    assert i3 == ProviderProfile(
        name="i3",
        description=i3.description,
        request_uri="urn:service:sos",
        location_position=LocationPosition.TOP_MOST,
        resolve_reference=False,
        identity=IdentityFields.KEEP,
        preferred_identity=CallerField.KEEP,
        geolocation_routing="if-absent",
    )
    number = load_profile("number", tmp_path)
    assert number == ProviderProfile(
        name="number",
        description=number.description,
        location=LocationConveyance.NONE,
        needs_location=False,
        geolocation_routing="",
        call_info=False,
        resource_priority="",
    )


def test_a_profile_of_ones_own_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text(
        "request_uri: sip:911@psap.example\ncaller_location: winner-only\n"
    )
    (tmp_path / "other.yaml").write_text("test_number: 8378\n")
    mine = load_profile("mine", tmp_path)
    assert (mine.name, mine.request_uri) == ("mine", "sip:911@psap.example")
    assert mine.caller_location is CallerLocation.WINNER_ONLY
    assert load_profile("other.yaml", tmp_path).test_number == "8378"
    (tmp_path / "edge911.yaml").write_text(
        "listen: [udp://127.0.0.1:5060]\ntrunks: {a: {target: 'sip:203.0.113.1'}}\n"
        "emergency: {routes: [{name: one, trunk: a, profile: mine}, {name: two, trunk: a, profile: other.yaml},\n"
        "  {name: three, trunk: a}]}\n"
    )
    loaded = load_config(tmp_path / "edge911.yaml")
    assert list(loaded.profiles) == ["mine", "other.yaml", "pidf-lo"]
    assert [path.name for path in loaded.files] == ["edge911.yaml", "mine.yaml", "other.yaml"]


def test_a_profile_hidden_by_a_built_in_one_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "pidf-lo.yaml").write_text("test_number: 8378\n")
    (tmp_path / "edge911.yaml").write_text(
        "listen: [udp://127.0.0.1:5060]\ntrunks: {a: {target: 'sip:203.0.113.1'}}\n"
        "emergency: {routes: [{name: one, trunk: a}]}\n"
    )
    loaded = load_config(tmp_path / "edge911.yaml")
    assert loaded.profiles["pidf-lo"].test_number == "933"
    assert any("profiles/pidf-lo.yaml is not used" in problem.message for problem in loaded.warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test_number: 911", "must not reach an emergency number"),
        ("test_number: '9911'", "must not reach an emergency number"),
        ("test_number: urn:service:sos", "not a number to dial"),
        ("request_uri: sip:933@{host}", "sends 911 calls to the test number"),
        ('request_uri: "sip:911@{host}\\r\\nX: y"', "not a Request-URI for 911"),
        ('resource_priority: "esnet.1\\r\\nX: y"', "not a Resource-Priority value"),
        ("location: none", "nothing can be routed by it"),
        ("name: mine", ":1:1: name: unknown key; "),
        ("[]", "the file holds a list"),
        ("", "the file is empty"),
    ],
)
def test_what_a_profile_must_not_say(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_profile("bad.yaml", tmp_path)
    assert message in str(caught.value)
    assert all(problem.file == str(tmp_path / "bad.yaml") for problem in caught.value.problems)


@pytest.mark.parametrize("name", ["nope", "../pidf-lo", "", "a\0.yaml", "no.yaml", "pidf-lo/"])
def test_a_profile_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        load_profile(name, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('from_uri: "sip:{caller}@{domain}"\n', "{caller}"),
        ('from_uri: "{callback}"\n', "no SIP or tel URI"),
        ('identity_uri: "sip:{callback}@{domain}>\\r\\nX: y"\n', "no URI"),
        ('identity: keep\nidentity_uri: "sip:{callback}@{domain}"\n', "identity: keep"),
        ('location: id\ngeolocation: "<https://lis.example.com>"\n', "location_id"),
        ('occupant: "{room}"\n', "{room}"),
        ("priority: loud\n", "priority"),
    ],
)
def test_what_is_filled_in_must_be_known(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "own.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_profile("own", tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("profile", "number", "words"),
    [
        ("i2", "", "needs a number to dial"),
        ("pidf-lo", "number: '+12125550170', ", "does not use it"),
        ("i2", "x", ""),
    ],
)
def test_the_number_of_a_route_and_of_its_profile(tmp_path: Path, profile: str, number: str, words: str) -> None:
    number = "number: '+12125550170', " if number == "x" else number
    path = tmp_path / "edge911.yaml"
    path.write_text(
        "listen: [udp://192.0.2.1:5060]\nnetworks: {inside: [10.0.0.0/8]}\n"
        "trunks: {a: {target: 'sip:192.0.2.2:5060'}}\n"
        f"emergency: {{routes: [{{name: a, trunk: a, {number}profile: {profile}}}]}}\n"
    )
    if not words:
        assert load_config(path).config.emergency.routes[0].number == "+12125550170"
        return
    with pytest.raises(ConfigError, match=words):
        load_config(path)
