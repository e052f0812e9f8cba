"""The web console and the REST API: a process of its own, supervised by `edge911 run`.

Calls need nothing of it. It reads and writes the database, reads files of the state directory, and asks the call
process nothing. One module for each page or group of endpoints; `app` puts them together, `pages` and `api` hold
what they share.
"""
