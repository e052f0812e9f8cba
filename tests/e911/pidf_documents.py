"""Location documents as others write them."""

PIDF = "urn:ietf:params:xml:ns:pidf"
GEOPRIV = "urn:ietf:params:xml:ns:pidf:geopriv10"
CIVIC = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
STREET = (
    "<ca:country>US</ca:country><ca:A1>NY</ca:A1><ca:A3>Albany</ca:A3>"
    "<ca:RD>Lake</ca:RD><ca:STS>AVE</ca:STS><ca:HNO>7</ca:HNO>"
)


def civic(elements: str = STREET, namespace: str = CIVIC) -> str:
    """A civic address of these elements."""
    return f'<ca:civicAddress xmlns:ca="{namespace}">{elements}</ca:civicAddress>'


def geopriv(location: str, method: str = "<gp:method>GPS</gp:method>") -> str:
    """A geopriv element with this location-info."""
    return f"<gp:geopriv><gp:location-info>{location}</gp:location-info><gp:usage-rules/>{method}</gp:geopriv>"


def presence(content: str, *, entity: str = 'entity="pres:caller@example.com"', before: str = "") -> bytes:
    """A whole document."""
    return (
        f'{before}<presence xmlns="{PIDF}" xmlns:dm="{PIDF}:data-model" xmlns:gp="{GEOPRIV}"'
        f' xmlns:gml="http://www.opengis.net/gml" xmlns:gs="http://www.opengis.net/pidflo/1.0" {entity}>{content}'
        "</presence>"
    ).encode()


def in_device(content: str) -> str:
    """As RFC 5491 wants it."""
    return f'<dm:device id="d">{content}<dm:timestamp>2030-01-01T00:00:00Z</dm:timestamp></dm:device>'


def in_tuple(content: str) -> str:
    """As RFC 4119 had it, and many products still have."""
    return f'<tuple id="t"><status>{content}</status></tuple>'


def in_person(content: str) -> str:
    """The last resort."""
    return f'<dm:person id="p">{content}</dm:person>'


GOOD = presence(in_device(geopriv(civic())))
POINT = presence(
    in_device(geopriv('<gml:Point srsName="urn:ogc:def:crs:EPSG::4326"><gml:pos>42.65 -73.75</gml:pos></gml:Point>'))
)
