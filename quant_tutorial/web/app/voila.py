"""Settings for Voilà, which shows lesson 10 as an app (`make app`)."""

c = get_config()  # noqa: F821 (defined by Voilà)

# The app shows only the dashboard, without the lesson's prose and exercises.
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = ["not-in-app"]

# Voilà's own template loads two icon fonts from another server; that in voila/templates does not.
c.VoilaConfiguration.template = "course"
