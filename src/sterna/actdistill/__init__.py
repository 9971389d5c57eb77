"""ActDistill: a policy that runs only the layers an action needs, distilled from itself."""
