"""What the stand-in calls itself."""

VERSION = "8.16.0+standin"
DESCRIPTION = f"Exported by NeuroPilot converter v{VERSION} (stand-in)"
