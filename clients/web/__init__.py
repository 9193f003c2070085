"""A web page that asks served models: `python -m clients.web`; needs NiceGUI, extra `[web]`."""
