"""What other tools read and write: tables, image folders, recorded dynamics. It must not judge."""
