"""What connections may take, all together and each: numbers, bytes, seconds."""

STREAM_BUFFER = 262_144
"""Bytes of one read: in an overload a 911 call is found the sooner among what its connection brought before it."""
TLS_BUFFER = 2 * 16_384
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""A peer that reads this little is cut off; it may never make us hold back others, or run out of memory."""
MAX_UNSENT_SECONDS = 10.0
"""So long a peer may read nothing of what waits for it."""
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
"""Of all connections together: messages begun and not whole yet, and bytes not sent yet. Beyond it the largest go."""
MESSAGE_SECONDS = 20.0
"""So long a message may take from its first byte to its last."""
IDLE_SECONDS = 600.0
STRANGER_IDLE_SECONDS = 30.0
MAX_CONNECTIONS = 10_000
NEARLY = 0.8
"""At this share of MAX_CONNECTIONS it is said."""
MAX_CONNECTIONS_PER_HOST = 2_500
"""Of one address: a PBX, or a whole branch behind one NAT."""
SPARE_IDLE_SECONDS = 10.0
"""Where there is no room for a new connection, the one idle longest goes, if it is idle for so long."""
SILENCE_SECONDS = 0.2
"""After so long without a byte, a body whose length was not said is taken as it came."""
CUT_BODY_SECONDS = 5.0
"""After so long without a byte, an urgent request whose body is shorter than announced is taken as it came. TCP may
send a lost segment again after 0.2, 0.6, 1.4 and 3 s: until then the rest may still come."""
CONNECT_SECONDS = 10.0
HANDSHAKE_SECONDS = 5.0
"""For a TLS handshake, of either side."""
FULL_KEY_BITS = 256
"""A shorter key than this is said: NENA-STA-010.3 asks for AES-256 between the elements of an ESInet."""
HANDSHAKES_AT_ONCE = 8
HANDSHAKE_PAUSE = 0.002
"""Between so many handshakes of clients and the next; seconds."""
SHUTDOWN_SECONDS = 1.0
"""For a peer to answer our close_notify."""
BACKLOG = 1024
ACCEPTED_PER_WAKEUP = 16
MAX_STRANGERS = 64
"""Connections from sources in no listed network, all together: enough for a 911 call to be refused politely."""
STRANGER_MESSAGE_BYTES = 65_536
KNOWN_LINES = 10_000
"""Addresses of which it is kept how long a connection took."""
