"""Postal codes against states and provinces, in the United States (USPS) and Canada (Canada Post).

A ZIP code's first three digits belong to one state or a few (USPS Labeling List L002); some codes at borders reach
across. The first letter of a Canadian postal code names its province, the first three characters the territory in
the north (Canada Post Addressing Guidelines). A code that does not fit usually means that one of the two is mistyped:
help would be sent elsewhere.
"""

import re
from typing import Final
from unicodedata import normalize

_ZIP = re.compile(r"(\d{3})\d{2}(?:-?\d{4})?")
_CANADIAN = re.compile(r"[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] ?\d[ABCEGHJ-NPRSTV-Z]\d")

_PREFIXES: Final = {
    "AA": "340",
    "AE": "090-099",
    "AK": "995-999",
    "AL": "350-369",
    "AP": "962-966",
    "AR": "716-729",
    "AS": "967",
    "AZ": "850-865",
    "CA": "900-961",
    "CO": "800-816",
    "CT": "060-069",
    "DC": "200 202-205 569",
    "DE": "197-199",
    "FL": "320-349",
    "GA": "300-319 398-399",
    "GU": "969",
    "HI": "967-968",
    "IA": "500-528",
    "ID": "832-838",
    "IL": "600-629",
    "IN": "460-479",
    "KS": "660-679",
    "KY": "400-427",
    "LA": "700-714",
    "MA": "010-027 055",
    "MD": "206-219",
    "ME": "039-049",
    "MI": "480-499",
    "MN": "550-567",
    "MO": "630-658",
    "MP": "969",
    "MS": "386-397",
    "MT": "590-599",
    "NC": "270-289",
    "ND": "580-588",
    "NE": "680-693",
    "NH": "030-038",
    "NJ": "070-089",
    "NM": "870-884",
    "NV": "889-898",
    "NY": "005 063 100-149",
    "OH": "430-459",
    "OK": "730-732 734-749",
    "OR": "970-979",
    "PA": "150-196",
    "PR": "006-007 009",
    "RI": "028-029",
    "SC": "290-299",
    "SD": "570-577",
    "TN": "370-385",
    "TX": "733 750-799 885",
    "UT": "840-847",
    "VA": "201 220-246",
    "VI": "008",
    "VT": "050-054 056-059",
    "WA": "980-994",
    "WI": "530-549",
    "WV": "247-268",
    "WY": "820-831",
}
_ALSO_IN: Final = {
    "02861": "MA",
    "42223": "TN",
    "59221": "ND",
    "63673": "IL",
    "71749": "LA",
    "73949": "TX",
    "81137": "NM",
    "84536": "AZ",
    "86044": "UT",
    "86515": "NM",
    "88063": "TX",
    "89439": "CA",
    "97635": "CA",
}
"""ZIP codes whose post office delivers across the border of its state, and the other state."""
_BEGINNINGS: Final = {
    "AB": ("T",),
    "BC": ("V",),
    "MB": ("R",),
    "NB": ("E",),
    "NL": ("A",),
    "NS": ("B",),
    "NT": ("X0E", "X0G", "X1A"),
    "NU": ("X0A", "X0B", "X0C"),
    "ON": ("K", "L", "M", "N", "P"),
    "PE": ("C",),
    # K1A is the federal government's, on both banks of the Ottawa River.
    "QC": ("G", "H", "J", "K1A"),
    "SK": ("S",),
    "YT": ("Y",),
}
US_STATES: Final = frozenset(_PREFIXES)
PROVINCES: Final = frozenset(_BEGINNINGS)


_NAMES: Final = {
    "US": """
AL Alabama|AK Alaska|AZ Arizona|AR Arkansas|CA California|CO Colorado|CT Connecticut|DE Delaware
DC District of Columbia|FL Florida|GA Georgia|HI Hawaii|ID Idaho|IL Illinois|IN Indiana|IA Iowa|KS Kansas
KY Kentucky|LA Louisiana|ME Maine|MD Maryland|MA Massachusetts|MI Michigan|MN Minnesota|MS Mississippi|MO Missouri
MT Montana|NE Nebraska|NV Nevada|NH New Hampshire|NJ New Jersey|NM New Mexico|NY New York|NC North Carolina
ND North Dakota|OH Ohio|OK Oklahoma|OR Oregon|PA Pennsylvania|RI Rhode Island|SC South Carolina|SD South Dakota
TN Tennessee|TX Texas|UT Utah|VT Vermont|VA Virginia|WA Washington|WV West Virginia|WI Wisconsin|WY Wyoming
AS American Samoa|GU Guam|MP Northern Mariana Islands|PR Puerto Rico|VI Virgin Islands|VI U.S. Virgin Islands
DC Washington DC
""",
    "CA": """
AB Alberta|BC British Columbia|BC Colombie-Britannique|MB Manitoba|NB New Brunswick|NB Nouveau-Brunswick
NL Newfoundland and Labrador|NL Newfoundland|NL Terre-Neuve-et-Labrador|NS Nova Scotia|NS Nouvelle-Écosse
NT Northwest Territories|NT Territoires du Nord-Ouest|NU Nunavut|ON Ontario|PE Prince Edward Island
PE Île-du-Prince-Édouard|QC Quebec|QC Québec|SK Saskatchewan|YT Yukon|YT Yukon Territory|QC PQ|NL NF
""",
}
"""Two letters, and a name that people write in their place; in Canada in both languages."""


def _codes(names: str) -> dict[str, str]:
    pairs = (entry.split(" ", 1) for line in names.strip().splitlines() for entry in line.split("|"))
    return {_plain(name): code for code, name in pairs}


def _plain(name: str) -> str:
    decomposed = normalize("NFD", name.casefold())
    return "".join(char for char in decomposed if char.isalnum())


def _numbers(ranges: str) -> frozenset[int]:
    found: set[int] = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


_CODE_OF: Final = {country: _codes(names) for country, names in _NAMES.items()}
_OF_STATE: Final = {state: _numbers(ranges) for state, ranges in _PREFIXES.items()}


def states_of(country: str) -> frozenset[str]:
    """The states, territories or provinces of US or CA, two letters each; empty for other countries."""
    return {"US": US_STATES, "CA": PROVINCES}.get(country, frozenset())


def state_code(country: str, state: str) -> str:
    """The two letters of a state or province of US or CA (capitals), also for its written-out name in English or
    French; in capitals as it came where it is none."""
    return _CODE_OF.get(country, {}).get(_plain(state), state.upper())


def normal_postal_code(country: str, code: str) -> str:
    """The code as the post writes it (`10118-0110`, `H3B 2Y5`); as it came where it is no code of the country."""
    text = " ".join(code.upper().split())
    joined = text.replace(" ", "").replace("-", "")
    if country == "CA" and _CANADIAN.fullmatch(joined):
        return f"{joined[:3]} {joined[3:]}"
    if country == "US" and _ZIP.fullmatch(joined):
        return f"{joined[:5]}-{joined[5:]}" if len(joined) == 9 else joined
    return code


def postal_problem(country: str, state: str, code: str) -> str:
    """`postal-code-malformed`, `postal-code-of-another-state`, or empty; country and state in capitals."""
    code = normal_postal_code(country, code)
    if country == "US":
        found = _ZIP.fullmatch(code)
        if found is None:
            return "postal-code-malformed"
        fits = state not in _OF_STATE or int(found[1]) in _OF_STATE[state] or _ALSO_IN.get(code[:5]) == state
    elif country == "CA":
        if not _CANADIAN.fullmatch(code):
            return "postal-code-malformed"
        fits = state not in _BEGINNINGS or code.startswith(_BEGINNINGS[state])
    else:
        fits = True
    return "" if fits else "postal-code-of-another-state"
