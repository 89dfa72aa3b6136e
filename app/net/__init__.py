"""All outgoing HTTP: webhooks that we post and media that we fetch, guarded where the socket is opened.

`addresses` has the rules for URLs and addresses, `guard` enforces them at every connection, `post` sends webhooks,
`fetch` downloads media. Proxy variables of the environment are ignored; there are no cookies and no unix sockets;
nothing is decompressed. Every exchange has one total timeout and a bounded read, so that no receiver can block us or
exhaust our memory.
"""

from app.net.fetch import FetchResult, fetch_to
from app.net.guard import Blocked, Egress, Timings
from app.net.post import Fault, PostResult, Sender, check_url

__all__ = ["Blocked", "Egress", "Fault", "FetchResult", "PostResult", "Sender", "Timings", "check_url", "fetch_to"]
