"""The layer cache: keys over resolved inputs, entries as small images, lookup in a given store."""
