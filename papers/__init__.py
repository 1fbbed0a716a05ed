"""Papers, one a file: what each claims, and what is measured here."""
