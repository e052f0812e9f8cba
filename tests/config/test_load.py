"""Loading: the example, types from the schema, includes, secrets, paths, limits; never anything but ConfigError."""

import json
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from config.document import MAX_BYTES, parse_document
from config.load import ConfigError, LoadedConfig, find_config, load_config
from config.schema import Config, SiteConfig
from e911.location import LocationSource

EXAMPLE = Path(__file__).parents[2] / "config" / "example.yaml"
LISTEN = "listen: [udp://127.0.0.1:5060]\n"
own_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def load(folder: Path, text: str | bytes) -> LoadedConfig:
    path = folder / "edge911.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(path)


def errors_of(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [
        f"{problem.line}:{problem.column}: {problem.path}: {problem.message}" for problem in caught.value.problems
    ]


def test_the_example_loads_and_says_only_what_is_not_built_yet_and_where_media_may_fail() -> None:
    loaded = load_config(EXAMPLE)
    assert [problem.path for problem in loaded.warnings] == [
        "trunks.carrier.target",
    ]
    others = [one for one in loaded.warnings if not one.message.startswith("accepted, but not built yet: ")]
    assert [one.message.rpartition(", ")[2] for one in others] == ["write private_media: expected"]
    config = loaded.config
    assert config.node == "hq-1"
    assert [(listen.transport, listen.host, listen.port) for listen in config.listen] == [
        ("udp", "127.0.0.1", 5060),
        ("tcp", "127.0.0.1", 5060),
    ]
    assert config.trunks["ers-a"].probe_interval == 10.0
    assert config.emergency.routes[0].timeout == 2.0
    assert config.sites[0].zones[0].networks == [ip_network("10.1.3.0/24")]
    assert config.sites[0].address.house_number == "350"
    assert config.locations.sources[0] is LocationSource.CONVEYED
    assert list(loaded.profiles) == ["pidf-lo"]
    assert loaded.files == (EXAMPLE,)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", False),
        ("locations: {reference_timeout: 1s}", True),
        ("locations: {reference_timeout: 1s, reference_hosts: [lis.example.com]}", False),
        ("locations: {reference_timeout: 1s, sources: [registered, site]}", False),
        ("emergency: {all_calls_from: [10.0.0.0/8]}", True),
    ],
)
def test_where_references_are_to_be_expected_check_asks_for_their_hosts(
    tmp_path: Path, more: str, said: bool
) -> None:
    found = load(tmp_path, f"{LISTEN}{more}\n").warnings
    assert ("locations.reference_hosts" in [one.path for one in found]) is said


@pytest.mark.parametrize(
    ("policy", "console", "said"),
    [
        ("outbound: allow", "", []),
        ("outbound: refuse", "", ["locations.unconfirmed"]),
        ('mail: "mailto://mx.example.com"', '{listen: "http://127.0.0.1:8911"}', ["locations.unconfirmed"]),
        ("outbound: refuse", '{listen: "http://127.0.0.1:8911", public_url: "https://e911.example.com"}', []),
        ("outbound: refuse", '{listen: "http://10.0.0.5:8911"}', []),
        (
            "{outbound: refuse, message: false}",
            '{listen: "http://10.0.0.5:8911"}',
            ["locations.unconfirmed.outbound"],
        ),
    ],
)
def test_where_users_are_to_open_a_link_check_says_what_keeps_them_from_it(
    tmp_path: Path, policy: str, console: str, said: list[str]
) -> None:
    policy = policy if policy.startswith("{") else f"{{{policy}}}"
    text = f"locations: {{unconfirmed: {policy}}}\n" + (f"console: {console}\n" if console else "")
    found = load(tmp_path, LISTEN + text).warnings
    assert [one.path for one in found if one.path.startswith("locations.unconfirmed")] == said


@pytest.mark.parametrize(
    ("ers", "relay", "said"),
    [
        ("target: sip:ers.example.com", "target: sip:relay.example.com", True),
        ("target: sip:ers.example.com", "target: sip:203.0.113.40", False),
        ("targets: [sip:ers.example.com, sip:203.0.113.31]", "target: sip:relay.example.com", False),
    ],
)
def test_where_every_911_route_needs_dns_check_names_the_remedy(
    tmp_path: Path, ers: str, relay: str, said: bool
) -> None:
    text = f"""
trunks: {{ers: {{{ers}}}, relay: {{{relay}}}}}
emergency: {{routes: [{{name: e, trunk: ers}}], basic: [{{name: b, trunk: relay, number: "+12125550140"}}]}}
"""
    found = load(tmp_path, LISTEN + text).warnings
    assert [one.path for one in found if "targets: [" in one.message] == ["trunks.ers.target"] * said


@pytest.mark.parametrize(
    ("listen", "inside", "said"),
    [
        ('"udp://[::]:5060"', "10.0.0.0/8", ["listen[0]"]),
        ('"udp://[::]:5060", "udp://0.0.0.0:5060"', "10.0.0.0/8", []),
        ('"udp://[::]:5060"', '"2001:db8::/32"', []),
    ],
)
def test_where_nothing_hears_ipv4_phones_check_says_so(
    tmp_path: Path, listen: str, inside: str, said: list[str]
) -> None:
    found = load(tmp_path, f"listen: [{listen}]\nnetworks: {{inside: [{inside}]}}\n").warnings
    assert [one.path for one in found if "hears IPv6 only" in one.message] == said


def test_plain_scalars_take_the_type_the_schema_asks_for(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        LISTEN
        + """
trunks: {a: {target: "sip:203.0.113.1:5060", probe: off, trust_identity: yes}, b: {target: sip:203.0.113.2, probe: 5}}
emergency: {numbers: [911, 0911], test_numbers: [0933], routes: [{name: 1, trunk: a, timeout: 1.5,
  covers: [NO, CA-ON]}]}
sites: [{id: 0123, name: 2:04, address: {country: NO, house_number: 1_000, floor: 0x10, unit: 1e3, room: "null",
         building: Null}, latitude: 59.9, longitude: "10.75"}]
log: {redact: off}
""",
    ).config
    assert config.trunks["a"].probe == "off"
    assert config.trunks["a"].probe_interval is None
    assert config.trunks["a"].trust_identity is True
    assert config.trunks["b"].probe_interval == 5.0
    assert config.emergency.numbers == ["911", "0911"]
    assert config.emergency.test_numbers == ["0933"]
    assert config.emergency.routes[0].name == "1"
    assert config.emergency.routes[0].timeout == 1.5
    assert config.emergency.routes[0].covers == ["NO", "CA-ON"]
    site = config.sites[0]
    assert (site.id, site.name) == ("0123", "2:04")
    address = site.address
    assert (address.country, address.house_number, address.floor) == ("NO", "1_000", "0x10")
    assert (address.unit, address.room, address.building) == ("1e3", "null", "Null")
    assert (site.latitude, site.longitude) == (59.9, 10.75)
    assert config.log.redact is False


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
@own_folder
def test_any_text_survives_in_a_text_field(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    document = {"listen": ["udp://127.0.0.1:5060"], "sites": [{"id": "a", "name": text.replace("${", "$${")}]}
    for written in (json.dumps(document, ensure_ascii=False), yaml.safe_dump(document, allow_unicode=True)):
        assert load(tmp_path_factory.mktemp("c"), written).config.sites[0].name == text


@given(st.from_regex(r"[A-Za-z0-9._+-][A-Za-z0-9._+:-]{0,20}[A-Za-z0-9._+-]", fullmatch=True))
@own_folder
def test_any_plain_word_survives_in_a_text_field(tmp_path_factory: pytest.TempPathFactory, word: str) -> None:
    if word in ("null", "--", "---", "..."):
        return
    text = f"{LISTEN}sites:\n  - id: a\n    name: {word}\n"
    assert load(tmp_path_factory.mktemp("c"), text).config.sites[0].name == word


@given(st.binary(max_size=200))
@own_folder
def test_bytes_load_or_are_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    _loads_or_says_why(tmp_path_factory.mktemp("c"), data)


_leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "udp://127.0.0.1:5060",
            "sip:203.0.113.1",
            "hq",
            "911",
            "${env:X}",
            "${file:.}",
            "10.0.0.0/8",
            "pidf-lo",
            "\0",
        ]
    )
)
_keys = st.sampled_from(
    sorted({*Config.model_fields, *SiteConfig.model_fields, "trunk", "target", "profile", "include", "url"})
)
_trees = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys | st.text(max_size=3), inner, max_size=4)
)


@example({"include": "\n"})
@example({"include": ["a\nb.yaml", "${file:a\nb}"]})
@given(st.dictionaries(st.sampled_from([*sorted(Config.model_fields), "include"]), _trees, max_size=6))
@own_folder
def test_any_tree_loads_or_is_a_config_error(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    document = {"listen": ["udp://127.0.0.1:5060"], **tree}
    _loads_or_says_why(tmp_path_factory.mktemp("c"), yaml.safe_dump(document).encode())


@given(st.data())
@own_folder
def test_a_damaged_example_loads_or_is_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = EXAMPLE.read_text()
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 40))
    damage = data.draw(st.text(st.sampled_from("{}[]:,-#&*!|>'\"%@ \n\tax1~$"), max_size=5))
    _loads_or_says_why(tmp_path_factory.mktemp("c"), (text[:start] + damage + text[start + length :]).encode())


def _loads_or_says_why(folder: Path, data: bytes) -> None:
    problems = []
    try:
        problems = list(load(folder, data).warnings)
    except ConfigError as error:
        problems = error.problems or [None]
    breaks = ("\n", "\r", "\x85", "\u2028", "\u2029")
    lines = 1 + sum(data.count(text.encode()) for text in breaks)
    for problem in problems:
        assert 1 <= problem.line <= lines
        assert problem.column >= 1
        assert problem.path
        assert "\n" not in problem.message


def test_empty_parts_mean_nothing_is_there(tmp_path: Path) -> None:
    config = load(
        tmp_path, LISTEN + "sites:\ncontacts:\nroutes:\n  inbound:\nlocations:\nemergency: {default: }\n"
    ).config
    assert config.sites == []
    assert config.contacts == {}
    assert config.routes.inbound == []
    assert config.emergency.numbers == ["911", "9911"]


def test_an_empty_value_of_a_setting_with_another_default_is_an_error(tmp_path: Path) -> None:
    assert errors_of(tmp_path, LISTEN + "emergency: {numbers: }\nlog:\n  level:\n") == [
        "2:22: emergency.numbers: is empty; write a value or remove the key",
        "4:9: log.level: is empty; write a value or remove the key",
    ]


def test_aliases_are_written_out(tmp_path: Path) -> None:
    config = load(tmp_path, LISTEN + "sites: [{id: a, numbers: &n [4XXX]}, {id: b, elins: [], numbers: *n}]\n").config
    assert config.sites[0].numbers == config.sites[1].numbers == ["4XXX"]


def test_a_bomb_of_aliases_is_an_error(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (error,) = errors_of(tmp_path, "\n".join(lines))
    assert "more than 500000 values (aliases written out)" in error


@pytest.mark.parametrize("part", ["[", "{a: ", "- ", "? ", "&a [", "[a, "])
def test_deep_nesting_is_an_error(part: str) -> None:
    root, problems = parse_document((part * 200_000).encode(), "f")
    assert root is None
    assert "nested more than 32 levels deep" in problems[0].message


def test_a_huge_file_is_an_error(tmp_path: Path) -> None:
    assert errors_of(tmp_path, b"#" * (MAX_BYTES + 1)) == [
        "1:1: (file): larger than 8 MiB; split it up with `include:`"
    ]


def test_a_flood_of_errors_is_cut(tmp_path: Path) -> None:
    found = errors_of(tmp_path, LISTEN + "sites:\n" + "- {}\n" * 5000)
    assert len(found) == 1001
    assert found[-1] == "1003:3: (file): and 4000 more errors from here on"


def test_includes_append_lists_and_merge_maps(tmp_path: Path) -> None:
    (tmp_path / "sites.d").mkdir()
    (tmp_path / "sites.d" / "b.yaml").write_text("sites: [{id: b}]\ntrunks: {b: {target: 'sip:203.0.113.2'}}\n")
    (tmp_path / "sites.d" / "a.yaml").write_text("sites: [{id: a}]\nroutes: {outbound: [b]}\ninclude: more/*.yaml\n")
    (tmp_path / "sites.d" / "more").mkdir()
    (tmp_path / "sites.d" / "more" / "z.yaml").write_text("sites: [{id: z}]\n")
    (tmp_path / "log.yaml").write_text("log: {level: debug}\n")
    text = LISTEN + "include: [sites.d/*.yaml, log.yaml, none.d/*.yaml]\nsites:\n"
    loaded = load(tmp_path, text + "trunks: {a: {target: 'sip:203.0.113.1'}}\nroutes: {outbound: [a]}\n")
    assert [site.id for site in loaded.config.sites] == ["a", "z", "b"]
    assert list(loaded.config.trunks) == ["a", "b"]
    assert loaded.config.routes.outbound == ["a", "b"]
    assert loaded.config.log.level == "debug"
    names = [str(path.relative_to(tmp_path)) for path in loaded.files]
    assert names == ["edge911.yaml", "sites.d/a.yaml", "sites.d/more/z.yaml", "sites.d/b.yaml", "log.yaml"]


def test_secrets_are_put_in_after_parsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("p: [ss, #word\n")
    monkeypatch.setenv("EDGE911_TEST_NODE", "null")
    loaded = load(
        tmp_path,
        LISTEN + "node: ${env:EDGE911_TEST_NODE}\n"
        "contacts: {desk: {send: 'mailto://u:${file:secret}@$${host}'}}\n"
        "locations: {database: 'postgresql://u:${file:secret}@db.example/e'}\n",
    )
    assert loaded.config.node == "null"
    assert loaded.config.contacts["desk"].send == ["mailto://u:p: [ss, #word@${host}"]
    assert loaded.database_url == "postgresql://u:p: [ss, #word@db.example/e"
    assert "word" not in repr(loaded)


SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=6, max_size=80)


@given(SECRETS)
@own_folder
def test_no_error_shows_a_secret(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    secret = f"Zq7{secret}"
    folder = tmp_path_factory.mktemp("c")
    (folder / "s").write_text(secret)
    text = """
listen: ['${file:s}', 'udp://${file:s}']
node: " ${file:s} "
networks: {inside: ['${file:s}']}
trunks: {a: {target: '${file:s}', probe: '${file:s}', side: '${file:s}', listen: '${file:s}'}}
routes: {outbound: ['${file:s}']}
emergency: {numbers: ['${file:s}'], test_numbers: ['${file:s}'], from_unlisted: '${file:s}',
  default: {site: '${file:s}'},
  routes: [{name: a, trunk: '${file:s}', profile: '${file:s}', covers: ['${file:s}']}],
  basic: [{name: b, trunk: '${file:s}', number: '${file:s}'}]}
sites: [{id: a, timezone: '${file:s}', numbers: ['${file:s}'], notify: ['${file:s}'], latitude: '${file:s}'}]
"""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    assert len(caught.value.problems) > 12
    assert "zq7" not in str(caught.value).lower()


def test_relative_paths_begin_at_the_main_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "edge911.yaml").write_text(LISTEN)
    monkeypatch.chdir(tmp_path)
    loaded = load_config(Path("etc/edge911.yaml"))
    assert loaded.directory == tmp_path / "etc"
    assert loaded.path("hq.crt") == tmp_path / "etc" / "hq.crt"
    assert loaded.path("/var/hq.crt") == Path("/var/hq.crt")
    assert loaded.state_directory == tmp_path / "etc" / "edge911-state"
    assert loaded.database_url == f"sqlite:///{tmp_path}/etc/edge911.db"
    (tmp_path / "etc" / "edge911.yaml").write_text(LISTEN + "locations: {database: 'sqlite:////var/lib/e.db'}\n")
    assert load_config(Path("etc/edge911.yaml")).database_url == "sqlite:////var/lib/e.db"


def test_find_config_looks_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE911_CONFIG", raising=False)
    if not os.path.exists("/etc/edge911/edge911.yaml"):
        with pytest.raises(
            ConfigError, match=r"looked at edge911\.yaml and /etc/edge911/edge911\.yaml; name one with -c"
        ):
            find_config(None)
    (tmp_path / "edge911.yaml").write_text(LISTEN)
    assert find_config(None) == Path("edge911.yaml")
    monkeypatch.setenv("EDGE911_CONFIG", "/srv/other.yaml")
    assert find_config(None) == Path("/srv/other.yaml")
    assert find_config(Path("mine.yaml")) == Path("mine.yaml")


def test_trace_is_off_and_its_parts_have_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, LISTEN).config.trace.pcap is None
    assert load(tmp_path, LISTEN).config.trace.hep is None
    text = f'{LISTEN}trace: {{pcap: {{directory: captures}}, hep: {{target: "udp://[2001:db8::9]:9060"}}}}\n'
    trace = load(tmp_path, text).config.trace
    assert trace.pcap is not None
    assert (trace.pcap.file_size, trace.pcap.files, trace.pcap.calls, trace.pcap.redact) == (10**8, 10, "all", None)
    assert trace.hep is not None
    assert (trace.hep.host, trace.hep.port, trace.hep.capture_id) == ("2001:db8::9", 9060, 911)


@pytest.mark.parametrize(("written", "size"), [("100MB", 10**8), ("2 gb", 2 * 10**9), ("5000000", 5_000_000)])
def test_sizes(tmp_path: Path, written: str, size: int) -> None:
    pcap = load(tmp_path, f"{LISTEN}trace: {{pcap: {{directory: c, file_size: {written}}}}}\n").config.trace.pcap
    assert pcap is not None
    assert pcap.file_size == size


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        ("{pcap: {directory: c, file_size: huge}}", "trace.pcap.file_size: 'huge' is not a size; write 100MB or 2GB"),
        ("{pcap: {directory: c, file_size: 10KB}}", "trace.pcap.file_size: too small; write 1MB or more"),
        ("{pcap: {}}", "trace.pcap.directory: missing; this setting is required"),
        ("{hep: {target: homer}}", "trace.hep.target: not a"),
        ('{hep: {target: "tcp://192.0.2.1:9060"}}', "trace.hep.target: not a collector; write udp://HOST:PORT"),
        ('{hep: {target: "udp://192.0.2.1"}}', "trace.hep.target: not a collector; write udp://HOST:PORT"),
    ],
)
def test_a_trace_that_cannot_be(tmp_path: Path, trace: str, words: str) -> None:
    (error,) = errors_of(tmp_path, f"{LISTEN}trace: {trace}\n")
    assert error.partition(": ")[2].startswith(words)
