"""Logs, and copies of SIP messages."""

from typing import Literal

from pydantic import Field

from config.schema.section import Section
from config.values import Collector, Size, split_url


class Log(Section):
    """Logs of all processes, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")
    format: Literal["json", "console"] = Field("json", description="one JSON object to a line, or text for people")
    redact: bool = Field(True, description="hide locations and numbers")


class PcapExport(Section):
    """Captures of all SIP, for Wireshark and sngrep."""

    directory: str = Field(description="where the files go; made where it is missing")
    file_size: Size = Field(100_000_000, description="a new file is begun when one is so large, such as 100MB")
    files: int = Field(10, ge=1, le=100_000, description="so many files are kept; the oldest is deleted")
    calls: Literal["all", "emergency"] = Field("all", description="every message, or those of 911 calls only")
    redact: bool | None = Field(None, description="hide locations and numbers; default: as log.redact")


class HepExport(Section):
    """All SIP, sent to a Homer server as HEPv3."""

    target: Collector = Field(description="udp://HOST:PORT of the collector")
    capture_id: int = Field(911, ge=1, le=4_294_967_295, description="number by which the collector knows this node")
    password: str = Field("", description="the collector's password, where it wants one", repr=False)
    calls: Literal["all", "emergency"] = Field("all", description="every message, or those of 911 calls only")
    redact: bool | None = Field(None, description="hide locations and numbers; default: as log.redact")

    @property
    def host(self) -> str:
        """The collector's address or name."""
        return split_url(self.target, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The collector's port."""
        return split_url(self.target, "")[1] or 9060


class Trace(Section):
    """Copies of all SIP messages for diagnosis, off by default; `edge911 trace` needs none of it."""

    pcap: PcapExport | None = Field(None, description="write captures")
    hep: HepExport | None = Field(None, description="send to a Homer server")
