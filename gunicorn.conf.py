"""Read by gunicorn by itself; its command line and GUNICORN_CMD_ARGS go before it."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT', '8080')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
# Compared in docs/performance.md: connections stay open, and waiting blocks none of them.
worker_class = "coupon_service.web.gunicorn_worker.GunicornWorker"
# It would be opened in the home folder, where two installations meet.
control_socket_disable = True
