"""A method over slices, cases and volumes, in batches that fit the device."""
