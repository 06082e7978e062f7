"""Why each event that has not ended is waiting: what the tables say, joined with what workers and `.control` tell.

The tables know of every event; that one runs, that its key is busy and that its tier is paused they do not know. Where
the brokers do not answer, what the tables say has to do.
"""
