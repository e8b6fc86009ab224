"""Number formats: what a person sees of a number or a date."""
