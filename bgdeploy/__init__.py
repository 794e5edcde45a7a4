"""bgdeploy: blue-green deployments for classic data centres."""

__version__ = "0.1.0"
