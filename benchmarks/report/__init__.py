"""What a run says: tables in the terminal, and one JSON document from which everything else is made."""
