"""A storage node's calls, one file each: what ``NodeService`` does with a store."""
