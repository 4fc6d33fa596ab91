"""HTTP: the endpoints, and how gunicorn serves them."""
