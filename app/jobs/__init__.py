"""Jobs: one paid order for one film, from the Spec that binds its price to the receipt that ends it."""
