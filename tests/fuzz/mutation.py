"""Mutations that know SIP a little: bytes, tokens and lines are put in, taken out, doubled and swapped."""

import random

PIECES = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b",", b";", b":", b"<", b">", b'"', b"\\", b"@", b"%", b"[", b"]",
    b"?", b"=", b"\r\n ", b"\r\n\r\n", b"Via: ", b"v:", b"l: 5\r\n", b"Content-Length: 99999999999\r\n", b";rport",
    b"--b", b";branch=z9hG4bK", b";received=", b";maddr=", b";tag=", b"SIP/2.0", b"sip:", b"tel:",
    b"urn:service:sos", b"911", b"cid:", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<gml:pos>", b"]]>",
    b"<![CDATA[", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"9" * 30, b"-1", b"1" * 4400, b" " * 3000, b"," * 3000,
    b";" * 3000, b'"\\' * 1500, b"<" * 2000, b"a@" * 1500, b"\r\n " * 600, b"<a>" * 900, b"%39" * 800,
    b"1.1.1." * 300, b"\r\nVia: SIP/2.0/UDP a" * 120, b";a=b" * 900,
]  # fmt: skip


def mutated(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A message that came of this one by one to six changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randrange(len(data) + 1)
        what = chance.randrange(16)
        if what == 0:
            data = data[:at] + chance.choice(PIECES) + data[at:]
        elif what == 1:
            data = data[:at] + chance.choice(PIECES) + data[at + chance.randrange(1, 20) :]
        elif what == 2:
            data = data[:at] + data[at + chance.randrange(1, 60) :]
        elif what == 3:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif what == 4:
            start, *lines = data.split(b"\r\n")
            chance.shuffle(lines)
            data = b"\r\n".join([start, *lines])
        elif what == 5:
            other = chance.choice(others)
            data = data[:at] + other[chance.randrange(len(other) + 1) :]
        elif what == 6:
            data = data[:at] if chance.random() < 0.3 else data[:at] + chance.choice(PIECES[:40]) + data[at:]
        elif what == 7:  # a line twice, or another message's line
            lines = data.split(b"\r\n")
            source = chance.choice((data, *others[:3])).split(b"\r\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(source))
            data = b"\r\n".join(lines)
        elif what < 11:  # a value of one line for that of another
            lines = data.split(b"\r\n")
            one, other_line = chance.randrange(len(lines)), chance.choice(lines)
            lines[one] = lines[one].partition(b":")[0] + b":" + other_line.partition(b":")[2]
            data = b"\r\n".join(lines)
        else:
            end = at + chance.randrange(1, 40)
            data = data[:at] + data[at:end] * chance.choice((2, 3, 50)) + data[end:]
        if len(data) > 65_507:  # no datagram is larger
            data = data[:65_507]
    return data
