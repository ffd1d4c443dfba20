"""The web edition (`make site`) and the settings of the app (`make app`, in `app/`)."""
