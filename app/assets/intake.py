"""How many files are taken at once. Each holds a thread and a session of its process while it is fetched and read."""

from app.places import Places

# Of one process: half of its sessions (app.db) stay for everybody who uploads nothing.
TOGETHER_MAX = 16
# Of one account: slow addresses of one customer must not keep another's file out.
EACH_MAX = 6

place = Places("files", "taken", each=EACH_MAX, together=TOGETHER_MAX).hold
