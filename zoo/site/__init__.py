"""The gallery: a folder of plain pages that need no server and ask nothing of the network.

`build.write_site` writes it; `parley site OUT` calls that.
"""
