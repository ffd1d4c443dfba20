"""What `make app` tells Voilà, which shows lesson 10 as an app."""

c = get_config()  # noqa: F821 (Voilà gives it)

# The app is the dashboard alone: neither the lesson's prose nor its exercises.
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = ["not-in-app"]

# Voilà's page asks a server elsewhere for two icon fonts, and the course uses no network.
styles = "style-src 'self' 'unsafe-inline'"
c.Voila.tornado_settings = {"headers": {"Content-Security-Policy": styles}}
