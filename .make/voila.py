"""What `make app` tells Voilà, which shows lesson 10 as an app."""

c = get_config()  # noqa: F821 (Voilà gives it)

# The app is the dashboard alone: neither the lesson's prose nor its exercises.
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = ["not-in-app"]

# Voilà's own page asks a server elsewhere for two icon fonts; that of voila/templates does not.
c.VoilaConfiguration.template = "course"
