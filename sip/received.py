"""Where a request came from, written into its top Via (RFC 3261 section 18.2.1, RFC 3581 section 4).

The line keeps its bytes: spacing, folds and the values after the first stay as they came.
"""

from ipaddress import ip_address

from sip.headers import value_end


def with_source(line: bytes, host: bytes, port: int | None) -> bytes:
    """A Via line whose first value carries `received=host`; where a port is given, its rport has that value.

    What these parameters said before is replaced: a received that stood there was the previous hop's claim. Empty
    parameters (`;;`), which only an emergency call is forgiven, go.
    """
    end = value_end(line)
    value = line[:end].rstrip()
    first, *parameters = value.split(b";")
    kept = [first]
    for parameter in parameters:
        name = parameter.partition(b"=")[0].strip().lower()
        if name == b"rport" and port is not None:
            kept.append(b"rport=%d" % port)
        elif name and name != b"received":
            kept.append(parameter)
    kept.append(b"received=" + host)
    return b";".join(kept) + line[len(value) :]


def maddr_of(parameters: bytes) -> str:
    """The maddr of a Via's parameters, to which responses go before all else (section 18.2.2); "" for none.

    Only an address of one host counts: a response is never multiplied.
    """
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"maddr":
            text = value.strip().strip(b"[]").decode("latin-1")
            try:
                address = ip_address(text)
            except ValueError:
                return ""
            is_many = address.is_multicast or address.is_unspecified or text == "255.255.255.255"
            return "" if is_many else text
    return ""
