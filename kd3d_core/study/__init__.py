"""Studies: many training runs that differ in one thing, and the table that compares them."""
