"""The shared language: documents, words on the wire, channels, logs, and what older ends may meet."""
