# "Encrypted training on MNIST", 2.2: what a weight and a data item look like; continues encrypted_training.py.
model.fc3.bias

first_batch, input_data = 0, 0
private_train_loader[first_batch][input_data]
