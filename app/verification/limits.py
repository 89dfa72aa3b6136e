"""What verification may cost: strangers ask for it, and each file takes seconds of a processor."""

from app.assets.limits import MEBIBYTE
from app.concurrency import ConcurrencyLimit

# The largest film that is sold (a minute at 1080P) is smaller.
FILE_BYTES_MAX = 100 * MEBIBYTE
FORM_BYTES_MAX = FILE_BYTES_MAX + 64 * 1024
FETCH_SECONDS = 20.0
# Wall clock of the process that reads a file, and of the one that seeks the watermark.
READ_SECONDS = 150.0
SEEK_SECONDS = 150.0
# From the beginning of a body to its end: a machine that sends 16 KiB a second would need two hours.
BODY_SECONDS_MAX = 300.0
# Per process: large bodies that are received, URLs that are fetched, and files that are read, at once. None waits, and
# one machine (`machine_of` its address) has one of each at most.
BODIES_TOGETHER = 8
FETCHED_TOGETHER = 4
READ_TOGETHER = 2
# Per minute, of one address of strangers.
PER_MINUTE = 10

_NETWORK = "this network"
# Each gives `hold(machine)`: hold a slot during the block. Raises AppError `rate_limited` where the machine holds one
# already, and `unavailable` where none is free.
body_slots = ConcurrencyLimit("files", "received", each=1, together=BODIES_TOGETHER, owner=_NETWORK)
fetching_slots = ConcurrencyLimit("URLs", "fetched", each=1, together=FETCHED_TOGETHER, owner=_NETWORK)
reading_slots = ConcurrencyLimit("files", "verified", each=1, together=READ_TOGETHER, owner=_NETWORK)
