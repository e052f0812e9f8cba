"""Who is told when 911 is dialled."""

from typing import Literal

from pydantic import Field

from config.schema.section import Section
from config.values import Duration, Strings

FollowUpKind = Literal["answered", "basic", "ended", "abandoned", "callback"]


class Contact(Section):
    """Someone who is told when 911 is dialled."""

    language: Literal["en", "fr"] = Field("en", description="language of notices")
    send: Strings = Field(
        default_factory=list, description="Apprise URLs (mailto://, json://, ...) or sip: URIs", repr=False
    )
    escalate_after: Duration | None = Field(
        None, description="where nobody has acknowledged a 911 call for so long, whoever comes next is told"
    )
    escalate_to: Strings = Field(
        default_factory=list, description="names of contacts that come next; default: the next in the site's notify"
    )
    quiet_hours: str = Field(
        "",
        pattern=r"^(([01]?\d|2[0-3]):[0-5]\d-([01]?\d|2[0-3]):[0-5]\d)?$",
        description="such as 22:00-06:00, in the site's time zone: not told of test calls, and of alarms only after; "
        "911 calls are always told",
    )
    templates: str | None = Field(
        None, description="folder with texts of your own (`edge911 contacts templates` writes those supplied)"
    )
    follow_ups: list[FollowUpKind] = Field(
        ["basic", "abandoned", "callback"],
        description="what is told of a call after its notice: answered, basic (goes on without location), ended, "
        "abandoned (hung up before an answer), callback. Where written, to every channel but calls; by default to "
        "those that keep a thread (mail, chat, pagers, syslog, SNMP); callback: to every channel but calls",
    )
    tests: bool | None = Field(
        None,
        description="told of test calls (933) too. Where one contact says true, only those that do are told; where "
        "none does, all but those that say false",
    )
