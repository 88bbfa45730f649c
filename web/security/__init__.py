"""Who may use the API: keys with scopes, browser sessions, rates, and the record of every write."""
