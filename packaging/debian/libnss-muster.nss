# Before a resolver that ends the search, and before a DNS server that is asked in vain.
hosts after=files muster
netgroup last muster
