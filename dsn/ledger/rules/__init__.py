"""What each entry may do: one function a kind, which refuses or gives the cells it changed."""
