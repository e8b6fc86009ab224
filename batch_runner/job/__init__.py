"""What to do: flags, environment and a job file made one validated, frozen Job."""
