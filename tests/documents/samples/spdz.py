# "PySyft for secure and private Deep Learning": a simplified SPDZ protocol for 3 users.
from random import randint

def encrypt(num):
    a = randint(-100,100)
    b = randint(-100,100)
    return [a, b, num - a - b]
def decrypt(shares):
    return sum(shares)
# Each user has a share of the number
user1_share, user2_share, user3_share = encrypt(4)
# You need all the users' shares to reconstruct the initial number
decrypt([user1_share, user2_share, user3_share])
