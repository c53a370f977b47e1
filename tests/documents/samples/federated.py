# "PySyft for secure and private Deep Learning": tensors sent to a user's device.
import torch
import pysmpc as sy
hook = sy.TorchHook(torch) #hook torch with syft
user1 = sy.VirtualWorker(hook=hook,id='user1') #create a virtual worker
a = torch.tensor([1, 2]).send(user1) #send a tensor to the user
b = torch.tensor([3, 4]).send(user1) #send a tensor to the user
c = a + b # add the two tensors on the user device
res = c.get() # get back the resulting tensor
print(res)
