"""The service as it is without prometheus-client: its answers are not counted."""

from wsgi import app

app.http_counters = None
