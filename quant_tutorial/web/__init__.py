"""The web edition (`make site`), the export for graders (`make graded`), the app's settings."""
