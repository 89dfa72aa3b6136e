"""Say of any file which marks it has, and which films of the registry it is made of."""
