# "PySyft for secure and private Deep Learning": encrypting and decrypting a tensor.
import torch
import pysmpc as sy
hook = sy.TorchHook(torch)
bob = sy.VirtualWorker(hook, id="bob")
alice = sy.VirtualWorker(hook, id="alice")
x = torch.tensor([25]).share(bob,alice)
y = torch.tensor([5]).share(bob,alice)
print("Bob share of x (==25): ", list(bob._tensors.values())[0]) # inspect the encrypted values
print("Alice share of x (==25): ", list(alice._tensors.values())[0]) # inspect the encrypted values
print("Adding both shares of x (==25): ", list(bob._tensors.values())[0]+list(alice._tensors.values())[0]) # manually decrypt the first tensor (25) by adding the 2 users shares
# manually add 2 encrypted numbers
share_bob = list(bob._tensors.values())[0] + list(bob._tensors.values())[1]
share_alice = list(alice._tensors.values())[0] + list(alice._tensors.values())[1]
print("Bob share of x+y (==30): ",share_bob)
print("ALice share of x+y (==30): ",share_alice)
print("Manual reconstruction of x + y: ", share_bob+share_alice)
# add two encryted numbers using Pysyft
z = x + y
print("Automatic reconstruction of x + y: ", z.get())
