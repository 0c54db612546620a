"""Several hosts: one daemon supervises, the others join it and pass on what is said."""
