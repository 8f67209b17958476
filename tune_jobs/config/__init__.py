"""What a person can set, in pieces; a part of the harness receives only its own."""
