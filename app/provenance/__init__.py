"""Where a film comes from: the marks in its pixels and its file, and how they are read back."""
