"""The file engine: one journal per directory, and files that catch up with it.

``files`` the seam to the disk · ``lock`` one owner · ``frame`` bytes of a commit group · ``segment`` files of frames ·
``offload`` work in threads · ``journal`` group commit · ``snapshot`` a queue as a file ·
``recovery`` what after a crash · ``manifest`` what was moved where · ``cold`` records that left memory ·
``sqlite_items`` items that left memory · ``settle`` moving both there · ``engine`` all of it.
"""
