"""Read a customer's file and write a new one from its pictures and sound: a process of its own, with little to lose.

`python -m app.assets.probe FILE FOLDER READER KIND` writes the new file into FOLDER and says on standard output, in
JSON, what it is: `{"file": …, "kind": …, …}`, or `{"refused": "why"}`. `app.assets.sandbox_probe` starts it.

The file is hostile until it is re-encoded. Only the named reader may open it, by a handle and not by a name; whatever
it points at (playlists, data references, other protocols) is never opened; decoders are listed; sizes are checked in
the header, before any picture is made; memory, processor time and file sizes are limited by the kernel.
"""
